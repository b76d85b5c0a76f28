"""Train on real digits and print what the network does: ``make demo``.

The training is that of ``alrnn fit --config digits``. The table shows the weights of the best validation epoch.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy
from lightning_alrnn.cli import ALRNNCLI, run_cli


def main() -> None:
    """Train, evaluate, print."""
    # Lightning's advice on loader workers and logging intervals is of no use for 1,257 images in memory
    warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")  # its own, of torch's pytree
    start = time.perf_counter()
    bar = ["--trainer.callbacks+=TQDMProgressBar", "--trainer.callbacks.refresh_rate=20"]
    cli = run_cli(["fit", "--config", "digits", *bar])
    fitted = time.perf_counter() - start
    report(cli, fitted)


def report(cli: ALRNNCLI, seconds: float) -> None:
    """Evaluate the best checkpoint and print the table."""
    model: LightningModule = cli.model
    data: LightningDataModule = cli.datamodule
    best = cli.trainer.checkpoint_callback.best_model_path
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = Trainer(
        callbacks=[RegimeOccupancy(), ActiveUnits(), FixedPoints()],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    val = trainer.validate(model, data, ckpt_path=best, verbose=False)[0]
    test = trainer.test(model, data, ckpt_path=best, verbose=False)[0]

    units = int(val["regime/possible_log2"])
    claim = "all regimes searched" if val["fixed_points/complete"] else "there may be more"
    classes = ", ".join(
        f"{int(val[f'fixed_points/{name}'])} {name}" for name in ("stable", "saddle", "unstable", "marginal")
    )
    rows = {
        "test accuracy": f"{test['test/accuracy']:.3f}",
        "regimes visited": f"{int(val['regime/visited'])} of 2^{units} = {2**units}, "
        f"effectively {val['regime/effective']:.1f}",
        "active nonlinear units": f"{int(val['units/active'])} of {units}",
        "fixed points": f"{int(val['fixed_points/total'])} ({classes}; {claim})",
        "trained in": f"{seconds:.0f} s, {cli.trainer.current_epoch} epochs, best {Path(best).stem}",
    }
    folder = Path(cli.trainer.log_dir)
    width = max(map(len, rows))
    table = "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
    (folder / "summary.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n")
    print(f"TensorBoard  {Path('.venv/bin/tensorboard')} --logdir {folder.parent.parent}")
    print(f"table        {folder / 'summary.txt'}")
    for figure in sorted((folder / "figures").glob(f"*epoch={cli.trainer.current_epoch - 1:03d}.png")):
        print(f"last epoch   {figure}")


if __name__ == "__main__":
    main()
