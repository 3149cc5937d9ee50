"""The documentation as a site, made from the Markdown in this repository: `python -m docs.site FOLDER`.

What is on the site, and in which order, is in contents.py. Sphinx makes the pages: conf.py, and
docs/decisions/0025-site.md.
"""
