"""What the hardware can do at most in each arm's precision, found once per study and kept."""

import json
from dataclasses import asdict
from pathlib import Path

import filelock

from mot_lab.config import StudyConfig
from mot_lab.runtime.files import write_json
from mot_lab.training import precision
from mot_lab.utilisation import Peak, hardware_peak


def study_peaks(config: StudyConfig, folder: Path) -> dict[str, Peak]:
    """By arm. The first process of a study to ask measures before it trains; all runs are measured
    by the same, whichever process trains them.
    """
    path = folder / "peaks.json"
    wishes = {arm.name: precision(arm.training.precision) for arm in config.parsed_arms}
    with filelock.FileLock(folder / ".peaks.lock"):
        if path.exists():
            kept = {name: Peak(**each) for name, each in json.loads(path.read_text()).items()}
            if kept.keys() == wishes.keys():
                return kept
        by_precision = {wish: hardware_peak(wish) for wish in set(wishes.values())}
        peaks = {name: by_precision[wish] for name, wish in wishes.items()}
        write_json(path, {name: asdict(each) for name, each in peaks.items()})
        return peaks
