"""Tests of the page of sclip explore, in a browser."""
