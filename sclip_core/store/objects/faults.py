"""What went wrong in object storage: whether to try again, and what to tell a user.

obstore raises a class for what S3, Google's and Azure's storage have in common, and for the rest
``GenericError`` with a text of many lines, which has the request, the answer and its own state.
"""

from __future__ import annotations

import re

from sclip_core.config.errors import printable
from sclip_core.config.places import ObjectPath
from sclip_core.store.files import KEPT, DiskError

LONGEST = 160  # characters of a reason
NOT_FOUND = "NotFoundError"
PANIC = "PanicException"  # no Exception: obstore was given what it did not expect
FOR_GOOD = (NOT_FOUND, PANIC, "PermissionDeniedError", "UnauthenticatedError", "NotSupportedError")
REFUSED = {"301", "307", "400", "401", "403", "404", "405", "501"}  # as they will be again
PASSING = {"RequestTimeout", "RequestTimeTooSkewed"}  # answers of those kinds that may not be
INSTANCE = "169.254."  # where a machine of a cloud is asked for credentials, in want of others
NO_CREDENTIALS = (
    "no valid credentials in the environment: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY; of gs GOOGLE_APPLICATION_CREDENTIALS, of az "
    "AZURE_STORAGE_ACCOUNT_NAME and _KEY"
)
AGAIN = "fix that and run again"
SECRETS = re.compile(r"(?i)(x-amz-[a-z-]+|signature|sig|credential|token|key)=[^&\s\"']+")
STATUS = re.compile(r"non-2xx status code: (\d{3})([^:<\n]*)")
CODE = re.compile(r"<Code>(\w{1,60})</Code>")
ADDRESS = re.compile(r"https?://[^/\s?@]+(?=[/\s?])")
MEANINGS = {
    "NoSuchBucket": "there is no such bucket: make it, or pass another",
    "AccessDenied": "permission denied: do the credentials allow it?",
    "InvalidAccessKeyId": "the storage does not know these credentials",
    "SignatureDoesNotMatch": "the storage does not accept these credentials",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the storage does not accept these credentials",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "SlowDown": "the storage has too many requests",
    "401": "the storage does not accept these credentials",
    "403": "permission denied: do the credentials allow it?",
    "404": "there is no such bucket: make it, or pass another",
    "429": "the storage has too many requests",
    "503": "the storage has too many requests",
    NOT_FOUND: "there is no such bucket or object",
    PANIC: "credentials or an endpoint in the environment have a line break or a space in them",
    "PermissionDeniedError": "permission denied: do the credentials allow it?",
    "UnauthenticatedError": NO_CREDENTIALS,
}


class StorageError(DiskError):
    """Object storage refused or could not be reached; what was there before is unchanged."""


def told(path: ObjectPath, error: BaseException, writing: bool, waited: float) -> StorageError:
    """The error of a request as one line, without what may be secret.

    Args:
        path: what was asked for.
        error: of obstore.
        writing: whether something was to be written.
        waited: seconds for which it was tried.
    """
    what = "written" if writing else "read"
    tried = f", tried for {waited:.0f} s" if waited >= 1 else ""
    line = f"{path} cannot be {what} ({reason(error)}{tried}); {KEPT if writing else AGAIN}"
    return StorageError(line, may_pass=not is_final(error))


def is_final(error: BaseException) -> bool:
    """Whether another try would be refused too."""
    text = str(error)
    if kind(error) in FOR_GOOD or INSTANCE in text:
        return True
    status = STATUS.search(text)
    if status is None:
        return False
    return status[1] in REFUSED and not PASSING & set(CODE.findall(text))


def kind(error: BaseException) -> str:
    """The name of obstore's class for an error; it raises Python's own where nothing is found."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else type(error).__name__


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words without secrets."""
    text = str(error)
    if INSTANCE in text:
        return NO_CREDENTIALS
    status, code = STATUS.search(text), CODE.search(text)
    names = [code[1] if code else "", status[1] if status else "", kind(error)]
    for name in names:
        if name in MEANINGS:
            return MEANINGS[name]
    address = ADDRESS.search(text)
    where = address[0] if address else "the storage"
    if status:
        return printable(f"{where} answered {' '.join([status[1], *names[:1]])}".strip())
    if "error sending request" in text or "kind: Connect" in text:
        if "kind: Timeout" in text or "TimedOut" in text:
            return printable(f"{where} gives no answer")
        if "kind: Connect" in text:
            return printable(f"no connection to {where}")
        return printable(f"{where} closed the connection")
    line = next((line.strip() for line in text.splitlines() if line.strip()), kind(error))
    return printable(SECRETS.sub(r"\1=...", line)[:LONGEST])
