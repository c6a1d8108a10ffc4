"""A digest of what a function does, for the keys of artifacts that a user's function made.

It is the same in every process and on every machine: it depends on no addresses, paths or hash
order. It covers the function's source and the whole file that it is in, its defaults, closure and
attributes, and the globals that it reads: numbers, strings and arrays by their values, other
functions and classes by their code. Where there is no source, or not the one that runs (the file
was edited and not loaded again), it covers the bytecode, which differs between versions of Python.

It does not cover modules that are imported inside a function, attributes looked up by a computed
name, files that are read, and objects without attributes (a lock, an object of a C library), of
which only the type counts. Of installed packages only names count. A global that the function
itself writes to, such as a dict used as a cache, changes the digest; ``functools.lru_cache`` does
not.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from sclip_core.encoder.source import globals_read, names_in, source_of

DIGITS = 16  # of the digest, hexadecimal
PLAIN = (  # types whose repr says everything
    *(type(None), bool, int, float, complex, str, bytes, type(...), range, slice, PurePath),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
)
ORIGINALS = ("__wrapped__", "py_func", "fn")  # where compilers and caches keep their function
PACKAGE = str(Path(__file__).parents[1])
INSTALLED = (PACKAGE, *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def code_digest(function: Callable[..., Any]) -> str:
    """The digest of what a function or a callable object does.

    Args:
        function: a function, a method, a ``functools.partial``, an object with ``__call__``.

    Returns:
        16 hexadecimal digits; others after every change that the module's docstring covers.
    """
    described = _Description(_package(function))
    described.add(function)
    return described.sha256.hexdigest()[:DIGITS]


class _Description:
    """Feeds a value and all that it refers to into a digest, one after the other."""

    def __init__(self, own: str) -> None:
        """Begin; the code of the package ``own`` counts even where it is installed."""
        self.sha256 = hashlib.sha256()
        self._own = own
        self._met: dict[object, tuple[int, object]] = {}  # with the value, which keeps its id

    def add(self, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Add a value.

        Args:
            value: any object.
            names: the attributes that may be read of it, if it is a module.
        """
        if not isinstance(value, types.ModuleType):
            names = frozenset()
        if isinstance(value, np.generic):
            value = np.asarray(value)
        self._tell(type(value).__qualname__)
        if isinstance(value, PLAIN):
            self._tell(repr(value))
            return
        if not isinstance(value, tuple | frozenset | types.CodeType):  # which are shared by chance
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
        """The types, in order of precedence, and how each is described."""
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
        """Add texts, each with its length, so that their boundaries count."""
        for text in texts:
            data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            self.sha256.update(b"%d:" % len(data) + data)

    def _each(self, *values: Any) -> None:
        self._tell(str(len(values)))
        for value in values:
            self.add(value)

    def _named(
        self, values: Mapping[str, Any], wanted: Iterable[str], names: frozenset[str] = frozenset()
    ) -> None:
        """Add some of the values, each with its name; ``names`` as of ``add``."""
        for name in sorted(wanted):
            self._tell(name)
            self.add(values[name], names)

    def _function(self, function: types.FunctionType) -> None:
        """Source and file, or bytecode; defaults, attributes, closure; globals that it reads."""
        code, scope = function.__code__, function.__globals__
        cells = [_content(cell) for cell in function.__closure__ or ()]
        if self._is_installed(str(scope.get("__name__")), code.co_filename):
            self._tell(str(scope.get("__name__")), code.co_qualname)
            wrapped = getattr(function, "__wrapped__", None)  # of a decorator
            self._each(*([wrapped] if wrapped else [*cells, function.__defaults__]))
            return
        written = source_of(code)
        self._tell(*written)
        if not written or code.co_name == "<lambda>":  # one line may hold several
            self._code(code)
        self._each(function.__defaults__, function.__kwdefaults__, vars(function), *cells)
        self._named(scope, globals_read(code) & scope.keys(), frozenset(names_in(code)))

    def _code(self, code: types.CodeType) -> None:
        self._tell(code.co_code)
        self._each(code.co_names, code.co_varnames, code.co_freevars, code.co_consts)

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """A module's name and, unless it is installed, what is read of it."""
        self._tell(module.__name__)
        if self._is_installed(module.__name__, getattr(module, "__file__", None) or "<frozen>"):
            return
        self._named(vars(module), names & vars(module).keys(), names)

    def _class(self, kind: type) -> None:
        """Methods and attributes of a class and its bases."""
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
        """The digests of the values, sorted."""
        each = []
        for value in values:
            described = _Description(self._own)
            described.add(value)
            each.append(described.sha256.hexdigest())
        self._tell(*sorted(each))

    def _object(self, value: Any) -> None:
        """An object's attributes, or the function that a compiler or a cache wraps."""
        slots = [name for base in type(value).__mro__ for name in _slots(base)]
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        held.update(getattr(value, "__dict__", {}))
        made_of = [name for name in ORIGINALS if isinstance(held.get(name), types.FunctionType)]
        file = getattr(sys.modules.get(type(value).__module__), "__file__", None) or "<frozen>"
        if made_of and self._is_installed(type(value).__module__, file):
            held = {"made of": held[made_of[0]]}  # the other attributes change at run time
        self._named(held, held)

    def _is_installed(self, module: str, file: str) -> bool:
        """Whether code belongs to Python, to a package that is installed, or to this one."""
        if module.partition(".")[0] == self._own:
            return False
        if {"site-packages", "dist-packages"} & set(Path(file).parts):
            return True
        return file.startswith("<frozen") or file.startswith(tuple(p + os.sep for p in INSTALLED))


def _package(function: Any) -> str:
    """The top-level package that a callable is defined in."""
    while isinstance(function, functools.partial | types.MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    is_function = isinstance(function, types.FunctionType)
    module = function.__module__ if is_function else type(function).__module__
    return str(module).partition(".")[0]


def _content(cell: types.CellType) -> Any:
    """The value of a closure's cell; None if it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(kind: type) -> list[str]:
    """The attributes that a class keeps in slots."""
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else slots
    return [name for name in names if not name.startswith("__")]
