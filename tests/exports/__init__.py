"""Exports, each opened by the tool that it is for."""
