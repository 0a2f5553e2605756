"""Published data sets as downloaded: each module turns the folder of one data set into a sample sheet.

Each module's `find` lists the slides in a folder and the problems with it; `found` writes the sheet. docs/datasets.md
says where each data set is published and which files to download.
"""
