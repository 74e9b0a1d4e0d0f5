"""The flags of the processor, from the kernel's list."""

from __future__ import annotations

from inference.processor import processor_flags


def test_the_flags_are_those_of_the_first_processor(tmp_path):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("model name\t: avx2\nflags\t\t: fpu avx512_vnni\n\nflags\t\t: sse\n")
    assert processor_flags(cpu_info) == {"fpu", "avx512_vnni"}


def test_nothing_is_known_of_some_processors(tmp_path):
    assert processor_flags(tmp_path / "missing") == frozenset()
    (tmp_path / "arm").write_text("Features\t: fp asimd asimddp\n")
    assert processor_flags(tmp_path / "arm") == frozenset()
