"""What a function does, as a digest: the code of a user's method belongs in the key of its results.

The same in every process and on every machine: no addresses, no paths, no order of a hash. A
function counts with its source and the whole file that it is in, its defaults, closure and
attributes, and the globals that it reads: numbers, texts, arrays by their values, other functions
and classes by their code. Where there is no source, or another than the one that runs (the file was
edited and not loaded again), its bytecode counts, which differs between versions of Python.

What is not seen: modules that are imported inside a function, what is looked up by a computed name,
files that are read, and the inside of objects that have no attributes to look at (a lock, an object
of a C library): those count by their type. What an installed package holds counts by its name. A
global that the function itself writes to, such as a dict of what it computed before, changes the
digest while it does so: ``functools.lru_cache`` does not.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from sclip_core.encoder.source import globals_read, names_in, source_of

DIGITS = 16  # of the digest, hexadecimal
PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, type(...), range, slice, PurePath),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
)
ORIGINALS = ("__wrapped__", "py_func", "fn")  # what a compiler or a cache was made of
PACKAGE = str(Path(__file__).parents[1])
INSTALLED = (PACKAGE, *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def code_digest(function: Callable[..., Any]) -> str:
    """The digest of what a function, or a callable object, does.

    Args:
        function: a function, a method, a ``functools.partial``, an object with ``__call__``.

    Returns:
        16 hexadecimal digits; another after every change that is seen (see above).
    """
    described = _Description(_package(function))
    described.add(function)
    return described.sha256.hexdigest()[:DIGITS]


class _Description:
    """A value and all that it refers to, one after the other into a digest."""

    def __init__(self, own: str) -> None:
        """Begin; ``own`` is the package whose code is looked into wherever it is installed."""
        self.sha256 = hashlib.sha256()
        self._own = own
        self._met: dict[object, tuple[int, object]] = {}  # with the value: its id is taken

    def add(self, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Add a value.

        Args:
            value: any.
            names: of a module, the attributes that may be read of it.
        """
        if isinstance(value, np.generic):
            value = np.asarray(value)
        self._tell(type(value).__qualname__)
        if isinstance(value, PLAIN):
            self._tell(repr(value))
            return
        if not isinstance(value, tuple | frozenset | types.CodeType):  # shared or not: by chance
            which = id(value), names
            if which in self._met:
                self._tell(f"number {self._met[which][0]}")
                return
            self._met[which] = len(self._met), value
        if isinstance(value, types.ModuleType):
            self._module(value, names)
            return
        if type(value).__module__ != "builtins" and not isinstance(value, type):
            self.add(type(value))
        for kind, describe in self._kinds():
            if isinstance(value, kind):
                describe(value)
                return
        self._object(value)

    def _kinds(self) -> Iterator[tuple[Any, Callable[[Any], None]]]:
        """How each kind of value is described."""
        yield types.FunctionType, self._function
        yield types.CodeType, self._code
        yield types.MethodType, lambda v: self._each(v.__func__, v.__self__)
        yield functools.partial, lambda v: self._each(v.func, v.args, v.keywords)
        yield (staticmethod, classmethod), lambda v: self._each(v.__func__)
        yield property, lambda v: self._each(v.fget, v.fset)
        yield functools.cached_property, lambda v: self._each(v.func)
        yield type, self._class
        yield types.BuiltinFunctionType, self._builtin
        yield torch.jit.ScriptFunction, lambda v: self._each(v.code)
        yield torch.Tensor, self._tensor
        yield np.ndarray, self._array
        yield Enum, lambda v: self._each(v.name, v.value)
        yield Mapping, lambda v: self._each(*(part for pair in v.items() for part in pair))
        yield (list, tuple, deque), lambda v: self._each(*v)
        yield (set, frozenset), self._set

    def _tell(self, *texts: str | bytes) -> None:
        """Add texts, each with its length, so that none runs into the next."""
        for text in texts:
            data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            self.sha256.update(b"%d:" % len(data) + data)

    def _each(self, *values: Any) -> None:
        self._tell(str(len(values)))
        for value in values:
            self.add(value)

    def _function(self, function: types.FunctionType) -> None:
        """Source and file, or bytecode; what is bound to it; the globals that it reads."""
        code, scope = function.__code__, function.__globals__
        cells = [_content(cell) for cell in function.__closure__ or ()]
        if self._is_installed(str(scope.get("__name__")), code.co_filename):
            self._tell(str(scope.get("__name__")), code.co_qualname)
            wrapped = getattr(function, "__wrapped__", None)  # of a decorator
            self._each(*([wrapped] if wrapped else [*cells, function.__defaults__]))
            return
        written = source_of(code)
        self._tell(*written)
        if not written or code.co_name == "<lambda>":  # several may be in one line
            self._code(code)
        self._each(function.__defaults__, function.__kwdefaults__, vars(function), *cells)
        names = frozenset(names_in(code))
        for name in sorted(globals_read(code) & scope.keys()):
            self._tell(name)
            of_module = isinstance(scope[name], types.ModuleType)
            self.add(scope[name], names if of_module else frozenset())

    def _code(self, code: types.CodeType) -> None:
        """Bytecode."""
        self._tell(code.co_code)
        self._each(code.co_names, code.co_varnames, code.co_freevars, code.co_consts)

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """What is read of a module."""
        self._tell(module.__name__)
        if self._is_installed(module.__name__, getattr(module, "__file__", None) or "<frozen>"):
            return
        for name in sorted(names & vars(module).keys()):
            self._tell(name)
            value = vars(module)[name]
            self.add(value, names if isinstance(value, types.ModuleType) else frozenset())

    def _class(self, kind: type) -> None:
        """Methods and attributes, also those of its bases."""
        for base in kind.__mro__:
            self._tell(base.__module__, base.__qualname__)
            module = sys.modules.get(base.__module__)
            file = getattr(module, "__file__", None) or ""
            if base.__module__ == "builtins" or self._is_installed(base.__module__, file):
                continue
            for name, member in sorted(vars(base).items()):
                is_code = isinstance(member, types.FunctionType | staticmethod | classmethod)
                if is_code or not name.startswith("__"):
                    self._tell(name)
                    self.add(member)

    def _builtin(self, function: types.BuiltinFunctionType) -> None:
        self._tell(str(function.__module__), function.__qualname__)
        if not isinstance(function.__self__, types.ModuleType | type(None)):
            self.add(function.__self__)

    def _tensor(self, tensor: torch.Tensor) -> None:
        here = (tensor if tensor.layout == torch.strided else tensor.to_dense()).detach()
        here = here.cpu().contiguous()
        self._tell(str(here.dtype), str(tuple(here.shape)))
        self._tell(here.reshape(-1).view(torch.uint8).numpy().tobytes())

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self._tell(array.dtype.str, str(array.shape))
        if array.dtype.hasobject:
            self._each(*array.ravel().tolist())
        else:
            self._tell(array.tobytes())

    def _set(self, values: set[Any]) -> None:
        """In an order that is the same in every process."""
        each = []
        for value in values:
            described = _Description(self._own)
            described.add(value)
            each.append(described.sha256.hexdigest())
        self._tell(*sorted(each))

    def _object(self, value: Any) -> None:
        """What it was made of, or its attributes."""
        slots = [name for base in type(value).__mro__ for name in _slots(base)]
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        held.update(getattr(value, "__dict__", {}))
        made_of = [name for name in ORIGINALS if isinstance(held.get(name), types.FunctionType)]
        file = getattr(sys.modules.get(type(value).__module__), "__file__", None) or "<frozen>"
        if made_of and self._is_installed(type(value).__module__, file):
            held = {"made of": held[made_of[0]]}  # the rest is a state that changes
        for name in sorted(held):
            self._tell(name)
            self.add(held[name])

    def _is_installed(self, module: str, file: str) -> bool:
        """Whether code belongs to Python, to a package that is installed, or to this one."""
        if module.partition(".")[0] == self._own:
            return False
        if {"site-packages", "dist-packages"} & set(Path(file).parts):
            return True
        return file.startswith("<frozen") or file.startswith(tuple(p + os.sep for p in INSTALLED))


def _package(function: Any) -> str:
    """The first name of the module that a callable is defined in."""
    while isinstance(function, functools.partial | types.MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    is_function = isinstance(function, types.FunctionType)
    module = function.__module__ if is_function else type(function).__module__
    return str(module).partition(".")[0]


def _content(cell: types.CellType) -> Any:
    """What a closure holds; nothing yet: None."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(kind: type) -> list[str]:
    """Attributes that a class keeps outside a dict."""
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else slots
    return [name for name in names if not name.startswith("__")]
