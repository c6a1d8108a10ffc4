"""Pictures of labels and scores: arrays in, RGB arrays out."""

from sclip_core.drawing.colours import palette
from sclip_core.drawing.panels import overlay, panel
from sclip_core.drawing.poster import poster
from sclip_core.drawing.sheet import sheet

__all__ = ["overlay", "palette", "panel", "poster", "sheet"]
