"""From folders of slides and annotations to a sample sheet and a short study: `stedm init`.

`files` pairs what lies in the folders, `patients` says whose slides they are, `survey` reads what slides and
annotations say of themselves, `classes` and `proposal` decide, and `write` puts it down.
"""
