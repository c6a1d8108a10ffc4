"""Libraries that may not be installed."""

from __future__ import annotations

import json.decoder
import sys

import pytest

from sclip_core.config import UserError
from sclip_core.config.optional import optional


def test_the_module_is_returned():
    assert optional("json.decoder", "none") is json.decoder


@pytest.mark.parametrize(
    ("module", "missing", "name"),
    [
        ("matplotlib.figure", "matplotlib", "matplotlib"),
        ("matplotlib.figure", "matplotlib.figure", "matplotlib"),
        ("skimage.segmentation", "skimage", "scikit-image"),
        ("no_such_library.part", "json", "no_such_library"),
    ],
)
def test_the_extra_is_named(monkeypatch, module, missing, name):
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError) as caught:
        optional(module, "extra", ", or do without")
    line = f"{name} is not installed: pip install 'sclip-benchmark[extra]', or do without"
    assert str(caught.value) == line


def test_what_the_library_lacks_is_named(monkeypatch, tmp_path):
    (tmp_path / "half_installed.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^no_such_library is not installed: .*\[extra\]'$"):
        optional("half_installed", "extra")
