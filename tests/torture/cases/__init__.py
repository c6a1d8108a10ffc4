"""The parts of the torture, one module each."""
