"""What measurements are made of: processes, peers, cases, records."""
