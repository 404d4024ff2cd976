"""Commands: what the scripts of workflow/scripts share. They parse; the library computes."""
