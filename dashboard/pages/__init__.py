"""The pages, one file each; a file's PAGES are found by a scan of this folder."""
