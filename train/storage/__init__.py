"""What a training writes to the disk, and reads again.

Reading order::

    files           files that are written completely or not at all
    folder          output folders, and which of their files this program wrote
    checkpoints     the state of a training
    cards           JSON files that describe trained models
    weights         trained weights
    circumstances   the machine, the versions, what samples
    artifacts       results, figures, and their provenance
"""
