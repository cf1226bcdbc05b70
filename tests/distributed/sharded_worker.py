"""The same runs with weights sharded over two processes by accelerate's FSDP2: `python sharded_worker.py FOLDER`.

accelerate turns FSDP on for accelerators alone (a launch with `use_cpu` silently gives DDP), though torch's FSDP2 works
over gloo. So that its whole path runs here, the process tells accelerate that its two CPU processes are two GPUs.
"""

import os
import sys
from pathlib import Path

SETTINGS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def pretend_to_be_an_accelerator() -> None:
    """Make accelerate take the FSDP path for this CPU process."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    os.environ.update(SETTINGS)
    ordinary = PartialState.__init__

    def pretending(self, *args, **settings):
        ordinary(self, *args, **settings)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = pretending


if __name__ == "__main__":
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import worker

    torch.set_num_threads(1)
    pretend_to_be_an_accelerator()
    worker.run(Path(sys.argv[1]), rank=int(os.environ["RANK"]), world=int(os.environ["WORLD_SIZE"]))
