"""The commands for trained models: predict, export, evaluate; and summary.

Reading order::

    columns         tables as plain text
    inputs          images that a user names
    exported        exported models: StableHLO programs
    inference       classification of images with a trained model
    exporting       the command export
    predict         the command predict
    confusion       errors by class
    evaluation      the command evaluate
    summary         the command summary
"""
