"""Published data sets as they are downloaded: each module turns the folder of one into a sample sheet.

`find` of a module lists the slides of a folder, and all that is wrong with it; `found` writes the sheet.
docs/datasets.md says where each data set is published and what of it to download.
"""
