"""What a shell's environment must not decide: a run's numbers are its spec's, and its company ours.

Called by the door of every script before torch or accelerate is imported, which read these once.
What chooses among equally exact kernels (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, MKL_CBWR) is
left: it makes one machine compute as another does.
"""

import os
import sys

from p2law.errors import UserError

LAUNCHER = "P2LAW_LAUNCHER"
"""Set by p2law.training.launch in the processes that it starts: its own process number."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Set by torchrun in the processes that it starts."""

PRECISION = (
    *("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "MEGATRON_LM_"),
    *("XLA_USE_BF16", "XLA_DOWNCAST_BF16"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("TORCHINDUCTOR_USE_FAST_MATH", "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG"),
    *("TORCHINDUCTOR_EMULATE_", "TRANSFORMERS_SDPA_FORCE_GQA", "FLASH_ATTENTION_DETERMINISTIC"),
)
"""Beginnings of variables from which accelerate, torch and its libraries take a precision, a
backend, an accumulation or another device than the script was told."""

RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"),
    *("GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR"),
    *("MASTER_PORT", "CROSS_RANK", "CROSS_SIZE", "FORK_LAUNCHED", "CCL_WORKER_COUNT"),
)
MPI = ("TORCHELASTIC_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "MPI_LOCAL")
"""By these torch and accelerate take a process for one of several; MPI: beginnings of names."""


def settle() -> list[str]:
    """Remove from this process's environment what is not its to obey; says and returns the names.

    Ranks stay where :mod:`p2law.training.launch` or torchrun started this very process. Raises
    :class:`UserError` where the launcher is another process than the one that started this.
    """
    launched = TORCHRUN in os.environ
    if LAUNCHER in os.environ:
        if os.environ[LAUNCHER] != str(os.getppid()):
            raise UserError(
                f"{LAUNCHER}={os.environ[LAUNCHER]}: that process did not start this one; unset it"
            )
        launched = True
    found = [name for name in os.environ if name.startswith(PRECISION)]
    if not launched:
        found += [name for name in os.environ if name in RANKS or name.startswith(MPI)]
    for name in found:
        del os.environ[name]
    if found:
        print(f"not obeyed, since the options decide: {', '.join(sorted(found))}", file=sys.stderr)
    return found
