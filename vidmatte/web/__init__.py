"""WEB: the picker, a page to mark, see, correct and finish in the browser. Needs the extra `web`."""
