"""What coarse classes mean, and the low resolution model: what Tissue needs besides training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_mtssl.cli.common import StudyPath
from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.study import Study


BlockSizes = Annotated[
    str | None,
    typer.Option(
        "--block",
        metavar="SIZE",
        help="Lay a grid over images without one: 64, 64x50 (rows x columns), 32um.",
    ),
]


def statistics(
    study: StudyPath,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure them first, in the blocks whose pixels are painted, and keep them in the study.",
        ),
    ] = False,
) -> None:
    """Show what a block of each coarse class contains, as training takes it."""
    from rich.console import Console
    from rich.table import Table

    from napari_mtssl.methods.superres.statistics import floored
    from napari_mtssl.study import Study

    with Study.open(study) as opened:
        measured = _measure(opened) if measure else None
        table = _in_use(opened)
        for line in floored(opened.statistics()):
            notes.print(line)
    shown = Table("block", "exact class", "mean", "spread", "from", title=study.stem)
    for row in table.itertuples():
        shown.add_row(row.block_class, row.mask_class, *_per_cent(row.mean, row.spread), row.source)
    Console().print(shown)
    if measured is not None:
        shown = Table("block", "exact class", "mean", "95 % interval", "blocks", title="measured")
        for row in measured.itertuples():
            interval = " to ".join(_per_cent(row.low, row.high))
            shown.add_row(row.block_class, row.mask_class, *_per_cent(row.mean), interval, str(row.blocks))
        Console().print(shown)


def classify_blocks(
    study: StudyPath,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a table image,row,col,probability, for import --as probability-map, with bins of "
            "your choice. Without it blocks of the images used to train get the study's own classes.",
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Exact class whose share is asked for; by default the first."),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser updates.")] = 400,
    block: BlockSizes = None,
) -> None:
    """Train the low resolution model on labelled blocks, and ask it about the others."""
    from napari_mtssl.cli.labels import grid_of
    from napari_mtssl.cli.train import options_without_window
    from napari_mtssl.engine.devices import training_threads
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.superres import coarse
    from napari_mtssl.study import Study
    from napari_mtssl.study.tables import image_names

    with Study.open(study) as opened:
        names = [item.name for item in opened.classes("mask")]
        if len(names) < 2:
            raise UsageError("The study has no exact class: name one in a table of statistics, or paint one.")
        wanted = 1 if of is None else names.index(opened.class_named(of, "mask").name)
        blocks = [item.name for item in opened.classes("block")]
        records = [image for image in opened.images() if csv is not None or image.split == "train"]
        bare = [image for image in records if block is not None and opened.grid(image.id) is None]
        if bare:
            with opened.edit("Laid grids"):
                for image in bare:
                    grid = grid_of(opened, block, image)
                    assert grid is not None
                    opened.set_grid(image.id, grid)
        with training_threads(options_without_window().threads), notes.status("Learning from blocks"):
            ids = [image.id for image in records]
            found = coarse.classify_blocks(opened, ImagePool(), blocks, names, steps=steps, image_ids=ids)
        if csv is None:
            count, images = coarse.keep_guesses(opened, found, blocks, names)
            notes.print(f"{count:,} blocks of {images} image(s) got a class; one undo takes it back.")
            return
        called = image_names(opened)
    _write_shares(csv, found, called, wanted, names[wanted])


def _write_shares(
    csv: Path, found: dict[int, dict[tuple[int, int], Any]], called: dict[int, str], wanted: int, name: str
) -> None:
    import numpy as np
    import pandas as pd

    from napari_mtssl.study.files import written_whole

    rows = [
        (called[image_id], i, j, float(np.clip(shares[wanted], 0, 1)))
        for image_id, places in found.items()
        for (i, j), shares in places.items()
    ]
    table = pd.DataFrame(rows, columns=["image", "row", "col", "probability"])
    csv.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(csv) as stream:
        table.to_csv(stream, index=False, float_format="%.4f", lineterminator="\n")
    notes.print(f"Wrote {csv}: shares of {name} in {len(table):,} blocks that nobody labelled.")


def _measure(study: Study) -> pd.DataFrame:
    """Measure statistics in painted blocks; what they say replaces what the study had of their classes."""
    import pandas as pd

    from napari_mtssl.methods.superres.coarse import painted_shares
    from napari_mtssl.methods.superres.statistics import default_statistics, measured_statistics

    exact = [item.name for item in study.classes("mask")]
    shares = painted_shares(study, exact)
    if not shares:
        raise UsageError(
            f"No block of {study.name} with a class is painted whole: paint all pixels of a few blocks first."
        )
    table = measured_statistics(shares, exact, default_statistics(list(shares), exact))
    known = study.statistics()
    others = known[~known["block_class"].isin(table["block_class"])]
    study.set_statistics(pd.concat([others, table[known.columns]], ignore_index=True))
    return table


def _in_use(study: Study) -> pd.DataFrame:
    """Statistics that training takes: said, else what a class's name says; nan where nobody knows."""
    import numpy as np
    import pandas as pd

    from napari_mtssl.methods.base import MethodError
    from napari_mtssl.methods.superres.statistics import as_arrays

    said = study.statistics()
    exact = [item.name for item in study.classes("mask")]
    unknown = np.full((1, len(exact)), np.nan)
    rows = []
    for item in study.classes("block"):
        own = said.loc[said["block_class"] == item.name, "source"]
        source = own.iloc[0] if len(own) else "name"
        try:
            eta, rho = as_arrays(said, [item.name], exact, [item.name])
        except MethodError as error:
            notes.print(str(error))
            eta, rho, source = unknown, unknown, "nobody"
        rows += [(item.name, name, m, s, source) for name, m, s in zip(exact, eta[0], rho[0], strict=True)]
    return pd.DataFrame(rows, columns=["block_class", "mask_class", "mean", "spread", "source"])


def _per_cent(*values: float) -> list[str]:
    return ["–" if value != value else f"{value:.1%}" for value in values]
