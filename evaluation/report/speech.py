"""What arms hear and say, as far as a report goes: transcripts to read, sounds to play."""

from evaluation.numbers.study import first_seed_speech
from evaluation.report.blocks import Section, Sounds, Text
from evaluation.store.study_record import StudyRecord

SPEECH_TEXT = (
    "Recordings are of the test split, the first ones, not chosen by hand, and answered by the "
    "first seed. A recording sounds as its units do, resynthesised by Griffin-Lim: an arm cannot "
    "sound better. Transcripts were written greedily from the recording's units, and scored by "
    "word error rate above; speech was sampled at temperature 1 from the text."
)


def speech_sections(study: StudyRecord) -> list[Section]:
    """One section, or none where no arm heard or spoke."""
    recordings = first_seed_speech(study)
    if not recordings:
        return []
    arms = list(study.arms)
    columns = ["text", "recording"]
    columns += [f"{arm} {what}" for arm in arms for what in ("says", "hears")]
    rows = []
    for text, samples in recordings.items():
        first = next(iter(samples.values()))
        row: list[str | bytes | None] = [text, first.recording]
        for arm in arms:
            row += [samples[arm].spoken, samples[arm].heard] if arm in samples else [None, None]
        rows.append(row)
    table = Sounds("speech", "Recordings, and what the arms hear and say", columns, rows)
    return [Section("speech", "Speech", [Text(SPEECH_TEXT), table])]
