"""Reads the texts that the package ships."""

from importlib.resources import files


def texts(folder: str) -> dict[str, str]:
    """The texts in a folder of the package's data, by file name. Empty if there is no such folder."""
    place = files("fz_iproute").joinpath("data", folder)
    return {each.name: each.read_text("utf-8") for each in place.iterdir()} if place.is_dir() else {}
