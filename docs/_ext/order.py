"""The order of the scripts in the gallery: what to see first."""

FIRST = (
    "sixty_seconds",
    "during_training",
    "several_windows",
    "tps_drag",
    "registration",
    "optical_flow",
    "lens",
    "custom_family",
    "elastic",
)


class FirstThese:
    """A sort key for sphinx-gallery: these scripts, then the others by their names."""

    def __init__(self, folder):
        pass

    def __call__(self, name):
        stem = name.removesuffix(".py")
        return (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)
