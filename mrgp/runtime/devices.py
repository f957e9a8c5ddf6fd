"""Process-wide settings of JAX, made once, before any array exists.

Double precision is on: a delay of a hundredth of a bin moves the log-likelihood in its tenth digit. Setting
``JAX_ENABLE_X64=0`` in the environment keeps single precision, which every fast path also supports; products of
matrices then keep all 23 bits, of which an accelerator would drop 13: a covariance does not stay one with 10.
Compiled programs are kept on disk between sessions, so that the second notebook of the day starts at once.

``import mrgp`` imports this module and this module does not import JAX, which takes seconds: where nobody has, the
settings wait in the environment, from which JAX takes them as it is imported (so do processes started from this one).
"""

import os
import sys
from pathlib import Path

LEAST_COMPILE_TIME = 0.3  # s: what compiles faster is not worth a file


def cache_folder() -> Path:
    """Folder of files that can be made again: compiled programs and fetched recordings."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "mrgp"


def configure() -> None:
    """Turn on double precision, full products of matrices, and the cache of programs.

    A setting that the environment has already stays as it is.
    """
    settings: dict[str, bool | float | str] = {}
    if "JAX_ENABLE_X64" not in os.environ:
        settings["jax_enable_x64"] = True
    if "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:
        settings["jax_default_matmul_precision"] = "highest"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        settings["jax_compilation_cache_dir"] = str(cache_folder() / "xla")
        settings["jax_persistent_cache_min_compile_time_secs"] = LEAST_COMPILE_TIME
    if "jax" in sys.modules:
        import jax

        for name, value in settings.items():
            jax.config.update(name, value)
    else:
        os.environ.update({name.upper(): str(value) for name, value in settings.items()})


configure()
