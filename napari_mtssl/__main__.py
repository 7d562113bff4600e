"""``python -m napari_mtssl`` is the command line."""

from napari_mtssl.cli import main

if __name__ == "__main__":
    main()
