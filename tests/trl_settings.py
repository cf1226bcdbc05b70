"""What TRL's trainers are told in every comparison: three steps of eight rows, and nothing that ours does not do."""

STEPS, STEP_ROWS, RATE = 3, 8, 1e-3

PLAIN = {
    "per_device_train_batch_size": STEP_ROWS,
    "max_steps": STEPS,
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "max_length": None,
    "seed": 0,
}
"""Of any of its configurations."""
