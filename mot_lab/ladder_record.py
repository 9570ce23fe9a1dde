"""What a ladder leaves in its folder: which rungs it has, and where they stand."""

RECORD = "ladder.json"
SCHEMA = 1
