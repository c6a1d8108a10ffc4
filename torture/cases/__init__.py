"""The parts of the torture, a module each."""
