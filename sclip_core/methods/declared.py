"""Parameters that a user's function declares: its keyword-only arguments, as fields of a model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, create_model

from sclip_core.config import UserError
from sclip_core.config.own_code import of_user
from sclip_core.config.plugins import where
from sclip_core.config.protocol import Checked
from sclip_core.encoder.code import code_digest


class OwnPart(Checked):
    """A user's function with values for its parameters, which are the fields."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    kind: ClassVar[str]
    """What it is, in words: ``refiner``."""
    name: ClassVar[str]
    function: ClassVar[Callable[..., Any]]

    @classmethod
    def made_of(cls, name: str, function: Callable[..., Any], positional: str) -> type[Self]:
        """A subclass for a function.

        Args:
            name: what flags and settings call it.
            function: what was decorated.
            positional: the names of what it is given, with commas between them, for the error.

        Raises:
            UserError: it cannot be called so.
        """
        made = with_fields(cls, f"{cls.kind} '{name}'", function, positional)
        made.name, made.function = name, staticmethod(function)
        return made

    @classmethod
    def code(cls) -> str:
        """A digest of what the function does."""
        return code_digest(cls.function)

    @property
    def what(self) -> str:
        """``refiner 'mine'``."""
        return f"{self.kind} '{self.name}'"

    def identity(self) -> dict[str, Any]:
        """What decides its result, for a key: ``mine``, its code, parameters that are not usual."""
        given = self.changed()
        parameters = {f"{self.kind}_parameters": given} if given else {}
        return {self.kind: self.name, f"{self.kind}_code": self.code(), **parameters}

    def call(self, *arguments: Any) -> Any:
        """Call the function.

        Raises:
            UserError: it raised something.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        with of_user(self.what, self.function):
            return type(self).function(*arguments, **values)


def with_fields(base: type[Any], what: str, function: Any, positional: str) -> type[Any]:
    """A subclass of a model whose fields are the keyword-only arguments of a function.

    Args:
        base: the model.
        what: ``method 'mine'``, for errors.
        function: any callable.
        positional: the names of its other arguments, with commas between them, for the error.

    Raises:
        UserError: it takes other arguments, one has no usual value, or a name that it cannot have.
    """
    if not callable(function):
        raise UserError(
            f"{what}: expected a function of {positional}; found {type(function).__name__}"
        )
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise UserError(f"{what}: an annotation of {where(function)}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: {where(function)} has no signature: {error}") from None
    own = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    try:
        signature.bind(*positional.split(", "), **dict.fromkeys(p.name for p in own))
    except TypeError:
        found = f"{where(function)}{inspect.signature(function)}"
        raise UserError(
            f"{what}: expected a function of {positional}, and behind a * of parameters with usual "
            f"values, such as ({positional}, *, beta: float = 1.2); found {found}"
        ) from None
    fields: dict[str, Any] = {}
    for p in own:
        if p.default is p.empty:
            raise UserError(f"{what}: its parameter {p.name} has no usual value: {p.name}=1.0")
        if hasattr(base, p.name) or p.name.startswith("_"):
            raise UserError(f"{what}: its parameter cannot be called {p.name}: rename it")
        usual = type(p.default) if p.default is not None else Any
        fields[p.name] = (usual if p.annotation is p.empty else p.annotation, p.default)
    try:
        create: Any = create_model
        created = create(
            getattr(function, "__name__", "own"),
            __base__=base,
            __module__=str(function.__module__),
            **fields,
        )
        created.checked({p.name: p.default for p in own})
    except UserError as error:
        raise UserError(f"{what}: a usual value is none: {error}") from None
    except Exception as error:
        raise UserError(f"{what}: its parameters: {' '.join(str(error).split())}") from None
    made: type[Any] = created
    return made


def digest_of(*parts: Any) -> str:
    """A digest of texts and numbers."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
