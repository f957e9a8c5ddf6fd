"""Process-wide settings of JAX, made once, before any array exists.

Double precision is on: a delay of a hundredth of a bin moves the log-likelihood in its tenth digit. Setting
``JAX_ENABLE_X64=0`` in the environment keeps single precision, which every fast path also supports.
Compiled programs are kept on disk between sessions, so that the second notebook of the day starts at once.
"""

import os
from pathlib import Path

import jax


def cache_folder() -> Path:
    """The folder for what can be made again: compiled programs and fetched recordings."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "mrgp"


def configure() -> None:
    """Turn on double precision and the persistent compilation cache, unless the environment says otherwise."""
    if "JAX_ENABLE_X64" not in os.environ:
        jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


configure()
