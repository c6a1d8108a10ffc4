"""What users add: methods, attentions, refiners and the like, by decorators in files of their own.

A plugin is a Python file that is imported by its path, or a benchmark's YAML; or an entry point
of the group ``sclip.methods`` of an installed package. Every decorator calls ``claim``, so that no
name silently means something else: two plugins of one command cannot have one name, while a file
that a later command does not name gives its names up.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from threading import RLock
from typing import Any

from sclip_core.config.errors import LONGEST, UserError, shown
from sclip_core.config.methods import built_in_methods
from sclip_core.config.own_benchmarks import add_benchmark
from sclip_core.config.own_code import file_of, line_of, said
from sclip_core.config.paths import local

GROUP = "sclip.methods"  # of entry points
MODULES = "sclip_plugins."  # what the names of plugins' modules begin with
YAML = (".yaml", ".yml")
# The settings that name something which a plugin can add, and what the project has of it.
BUILT_IN = {
    "method": (*built_in_methods(), "csa", "vanilla", "maskclip", "clearclip", "naclip", "kk"),
    "attention": ("csa", "vanilla", "maskclip", "clearclip", "naclip", "kk"),
    "refiner": ("pamr", "tlp"),
    "after": ("vote", "closing", "none"),
    "decision": ("argmax",),
    "hybrid_rule": ("vote", "pool", "crop"),
    "proposals": ("sam", "felzenszwalb", "slic", "files"),
}
DECORATORS = {"attention": "policy", "source of masks": "proposer"}  # of a kind, where not its name
Registry = Callable[[], MutableMapping[str, Any]]


@dataclass
class Held:
    """A name that a user's function has."""

    kind: str
    function: Any
    registry: Registry
    value: Any
    plugin: Path | None
    undo: Callable[[], None]

    def is_there(self, name: str) -> bool:
        """Whether the name still means this."""
        return self.registry().get(name) is self.value


@dataclass
class Plugin:
    """A file that was loaded."""

    path: Path
    sha256: str
    names: list[tuple[str, str]] = field(default_factory=list)  # keys of ``_held``


_held: dict[tuple[str, str], Held] = {}  # by the kind of name, and the name
_plugins: dict[Path, Plugin] = {}
_loading: list[Plugin] = []  # the one that is being imported is the last
_wanted: set[Path] = set()  # by the command that loads now
_entry_points: list[str] = []  # loaded
_lock = RLock()


def claim(
    kind: str,
    name: object,
    function: Any,
    registry: Registry,
    value: Any,
    built_in: Collection[str] = (),
    undo: Callable[[], None] = lambda: None,
) -> None:
    """Put what a user wrote into a registry.

    The same function may be defined again under its name, as by a notebook's cell that runs again.

    Args:
        kind: in words, such as ``method``; methods and attentions share their names.
        name: what flags and settings call it.
        function: what was decorated: a function or a class.
        registry: gives the registry.
        value: what is put there.
        built_in: names of the project's own.
        undo: is called when a plugin that is loaded again, or not asked for, gives the name up.

    Raises:
        UserError: the name is invalid or taken.
    """
    name = check_name(kind, name)
    if name in built_in:
        raise UserError(f"{kind} '{name}' is built in: register yours under another name")
    key = "method" if kind == "attention" else kind, name
    held = _held.get(key)
    if held is not None and held.is_there(name):
        if not _may_replace(held, function):
            raise UserError(
                f"{held.kind} '{name}' is taken by {where(held.function)}: register "
                f"{where(function)} under another name"
            )
        if held.registry is not registry:
            held.registry().pop(name)
        held.undo()
    registry()[name] = value
    plugin = _loading[-1] if _loading else None
    _held[key] = Held(kind, function, registry, value, plugin.path if plugin else None, undo)
    if plugin:
        plugin.names.append(key)


def check_name(kind: str, name: object) -> str:
    """A name if flags and settings can take it.

    Raises:
        UserError: they cannot, or it is no text.
    """
    if not isinstance(name, str):
        raise UserError(
            f'{_a(kind)} needs a name: write @{DECORATORS.get(kind, kind)}("my_name") above it'
        )
    if not name or name != name.strip() or set(name) & {":", ",", "=", ";"}:
        raise UserError(
            f"invalid {kind} name '{name}': expected one without ':', ',' and spaces around it"
        )
    return name


def names_of(kind: str) -> list[str]:
    """The names that users gave to things of a kind."""
    return [name for (of, name), held in _held.items() if of == kind and held.is_there(name)]


def one_of(name: str, known: Iterable[str]) -> str:
    """A name if it is one of those known.

    Raises:
        ValueError: it is not; pydantic says where it stood.
    """
    several = list(known)
    if name not in several:
        quoted = [f"'{one}'" for one in several]
        raise ValueError(f"Input should be {', '.join(quoted[:-1])} or {quoted[-1]}")
    return name


def where(function: Any) -> str:
    """Module and name of a function, or of a callable object's class; of a plugin its file."""
    function = _plain(function)
    module, name = function.__module__, function.__qualname__
    if not str(module).startswith(MODULES):
        return f"{module}.{name}"
    return f"{name} ({_shown(file_of(function))})"


def _a(kind: str) -> str:
    return f"an {kind} policy" if kind == "attention" else f"a {kind}"


def _plain(function: Any) -> Any:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return function if hasattr(function, "__qualname__") else type(function)


def _shown(file: str | None) -> str:
    """A path as short as it can be: relative to the folder that the command runs in."""
    path = Path(file or "?")
    with suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _may_replace(held: Held, function: Any) -> bool:
    """Whether a name may be given to another function."""
    plugin = _loading[-1].path if _loading else None
    if held.plugin is not None and plugin is not None and held.plugin != plugin:
        return held.plugin not in _wanted
    before, now = _plain(held.function), _plain(function)
    if before.__qualname__ != now.__qualname__:
        return False
    if before.__module__ == now.__module__:
        return True
    file = file_of(before)
    return file is not None and os.path.isfile(file) and file == file_of(now)


def plugin_paths(value: Any, folder: Path | None = None) -> tuple[Path, ...]:
    """The files in a setting ``plugins``: absolute, each once.

    Args:
        value: a path, text with commas between paths, or a list of both; None: none.
        folder: what relative paths are relative to; None: the working directory.
    """
    if not isinstance(value, str | Path | list | tuple | None):
        raise UserError(f"settings: plugins={shown(value)}: expected paths of files")
    parts: list[Any] = [value] if isinstance(value, str | Path) else list(value or ())
    found: dict[Path, None] = {}
    for part in parts:
        for text in part.split(",") if isinstance(part, str) else [str(part)]:
            if text.strip():
                path = Path(os.path.expanduser(local(Path(text.strip()))))
                found[Path(os.path.abspath((folder or Path.cwd()) / path))] = None
    return tuple(found)


def load_plugins(paths: Iterable[Path], settings: Mapping[str, Any] | None = None) -> None:
    """Import plugins that were not yet imported, or whose files have changed since.

    Args:
        paths: Python files and YAMLs of benchmarks.
        settings: of the run; where they name what neither the project nor these files have, the
            entry points of installed packages are imported too.

    Raises:
        UserError: a file is not there, does not import or registers nothing; a name is taken.
    """
    with _lock:
        several = list(dict.fromkeys(Path(os.path.realpath(path)) for path in paths))
        _refuse_alike(several)
        _wanted.clear()
        _wanted.update(several)
        # Benchmarks first: a method may have settings for one.
        for path in sorted(several, key=lambda path: path.suffix.lower() not in YAML):
            _load(path)
        if settings and _names_something_else(settings):
            load_entry_points()


def load_entry_points() -> None:
    """Import what installed packages register, once a process.

    Raises:
        UserError: one of them does not import, or a name is taken.
    """
    for point in metadata.entry_points(group=GROUP):
        if point.name in _entry_points:
            continue
        package = point.dist.name if point.dist else "?"
        try:
            point.load()
        except UserError as error:
            raise UserError(f"entry point '{point.name}' of {package}: {error}") from error
        except Exception as error:
            raise UserError(
                f"entry point '{point.name}' of {package} does not import: {said(error)}"
            ) from error
        _entry_points.append(point.name)


def _names_something_else(settings: Mapping[str, Any]) -> bool:
    """Whether settings name what neither the project nor a plugin has."""
    for setting, built_in in BUILT_IN.items():
        value = settings.get(setting)
        parts = value.split(",") if isinstance(value, str) else value
        for part in parts if isinstance(parts, list | tuple) else ():
            name = str(part).partition(":")[0].strip()
            if name and name not in built_in and not any(n == name for _, n in _held):
                return True
    return False


def _refuse_alike(paths: Iterable[Path]) -> None:
    """Two files of one name would be one module, whose functions nothing tells apart."""
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(path.name, path)
        if other != path:
            raise UserError(f"plugins {other} and {path} have one name: rename one of them")


def _load(path: Path) -> None:
    """Load a file, unless what it registered last time is still there."""
    shown = _shown(str(path))
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"plugin {shown} {what}: pass the path of a Python file, or of a YAML")
    if path.suffix.lower() not in (".py", *YAML):
        raise UserError(
            f"plugin {shown}: expected a Python file (.py) or a benchmark's YAML (.yaml)"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"plugin {shown} cannot be read: {error.strerror}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    known = _plugins.get(path)
    if known and known.sha256 == sha256 and all(_is_held(key, path) for key in known.names):
        return
    _forget(path)
    plugin = Plugin(path, sha256)
    _loading.append(plugin)
    try:
        if path.suffix.lower() in YAML:
            add_benchmark(path, data, claim)
        else:
            _execute(path, data, shown)
        if not plugin.names:
            raise UserError(
                f"plugin {shown} registers nothing: write a decorator such as @method or @policy "
                "above a function of it"
            )
    except BaseException:
        _plugins[path] = plugin
        _forget(path)
        raise
    finally:
        _loading.pop()
    _plugins[path] = plugin


def _is_held(key: tuple[str, str], path: Path) -> bool:
    held = _held.get(key)
    return held is not None and held.plugin == path and held.is_there(key[1])


def _forget(path: Path) -> None:
    """Give up what a file registered."""
    plugin = _plugins.pop(path, None)
    for key in plugin.names if plugin else ():
        held = _held.get(key)
        if held is not None and held.plugin == path:
            del _held[key]
            if held.is_there(key[1]):
                del held.registry()[key[1]]
                held.undo()


def _execute(path: Path, data: bytes, shown: str) -> None:
    """Run a Python file as a module; without bytecode, which a quick edit would not replace."""
    name = MODULES + path.stem
    module = types.ModuleType(name)
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for helpers beside it
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        linecache.checkcache(str(path))
        text = importlib.util.decode_source(data)
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, KeyboardInterrupt | MemoryError):
            raise
        line = error.lineno if isinstance(error, SyntaxError) else line_of(error, str(path))
        place = f"plugin {shown}, line {line}" if line else f"plugin {shown}"
        text = str(error) if isinstance(error, UserError) else said(error)
        if isinstance(error, SyntaxError):
            text = f"{type(error).__name__}: {error.msg}"
        raise UserError(f"{place}: {text[: 2 * LONGEST]}") from error
