"""The float networks in PyTorch: LiteMedSAM and MedSAM."""
