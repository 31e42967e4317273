"""Methods of one's own in a protocol: one content for all jobs of a file, and run only where it is trusted."""

from collections.abc import Sequence

from semivox.benchmarking.protocols import Job
from semivox.errors import ConfigError, RunError, UnknownMethodError
from semivox.methods import OwnMethod, list_methods, load_own, loaded_own, own_method
from semivox.runs.folder import open_run
from semivox.runs.trust import kept_method


def load_own_methods(jobs: Sequence[Job], *, trust: bool) -> dict[str, OwnMethod]:
    """Load the methods that semivox does not ship, and return their files by the protocol's word.

    Where a job has begun, it is the copy in its run that counts: the file itself may be gone.

    Raises:
        UnknownMethodError, MethodError: there is no such file, or it is none of a method.
        ConfigError: the file has another content than a run that a job has begun.
        RunError: it would run a program without `trust`, or a run's copy is missing or another.
    """
    found = {}
    for word in dict.fromkeys(job.spec.method for job in jobs if job.spec.method not in list_methods()):
        found[word] = own = _one_content(word, [job for job in jobs if job.spec.method == word])
        if not trust and not loaded_own(own.digest):
            raise RunError(
                f"the protocol names '{word}', a method that semivox does not ship: it would run the program "
                f"{own.path} (SHA-256 {own.digest}), which may do whatever you may. Read it, and if you trust it give "
                "--trust (in Python trust=True)"
            )
        load_own(own)
    return found


def _one_content(word: str, jobs: Sequence[Job]) -> OwnMethod:
    """Return the file of a method that all these jobs share."""
    runs = [job.folder / "run" for job in jobs if (job.folder / "run" / "run.json").exists()]
    files = [kept_method(open_run(run)) for run in runs]
    try:
        given = own_method(word)
    except UnknownMethodError:
        if not files:
            raise
        given = None
    files += [given] if given else []
    for other in files[1:]:
        if other.digest != files[0].digest:
            raise ConfigError(
                f"{other.path} (SHA-256 {other.digest}) is not the '{word}' that {files[0].path.parent} was trained "
                f"with (SHA-256 {files[0].digest}): put that file back, or name another folder with -o"
            )
    return files[0]
