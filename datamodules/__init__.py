"""DataModules: one file for each task, and their base class."""

if __name__ != "lightning_alrnn.datamodules":
    raise ImportError(f"import this package as lightning_alrnn.datamodules, not as {__name__}")

from lightning_alrnn.datamodules.addition import Addition
from lightning_alrnn.datamodules.arrays import Arrays
from lightning_alrnn.datamodules.base import SequenceDataModule, SequenceDataset
from lightning_alrnn.datamodules.contextual import ContextualIntegration
from lightning_alrnn.datamodules.copy import Copy
from lightning_alrnn.datamodules.digits import SequentialDigits
from lightning_alrnn.datamodules.held_out import share_seen
from lightning_alrnn.datamodules.imdb import IMDb
from lightning_alrnn.datamodules.mnist import SequentialMNIST
from lightning_alrnn.datamodules.multitask import MultiTask
from lightning_alrnn.datamodules.population import PopulationDataModule
from lightning_alrnn.datamodules.scan_commands import SCAN
from lightning_alrnn.datamodules.speech_commands import SpeechCommands
from lightning_alrnn.datamodules.stimulus_archive import save_trials
from lightning_alrnn.datamodules.stimulus_selection import StimulusSelection

__all__ = [
    "SCAN",
    "Addition",
    "Arrays",
    "ContextualIntegration",
    "Copy",
    "IMDb",
    "MultiTask",
    "PopulationDataModule",
    "SequenceDataModule",
    "SequenceDataset",
    "SequentialDigits",
    "SequentialMNIST",
    "SpeechCommands",
    "StimulusSelection",
    "save_trials",
    "share_seen",
]
