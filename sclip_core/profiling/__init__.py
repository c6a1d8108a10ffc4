"""What a run costs on this machine: time, memory, parameters and FLOPs; nothing is stored.

>>> from sclip_core.config import resolve
>>> from sclip_core.profiling import profile
>>> demo = resolve(preset="demo", dataset="scenes", device="cpu", num_samples=1)
>>> [row.parameters for row in profile([demo], size=(96, 96), repeats=1).networks][0] > 0
True
"""

from sclip_core.profiling.measure import MethodCost, NetworkCost, Profile, Stage, profile

__all__ = ["MethodCost", "NetworkCost", "Profile", "Stage", "profile"]
