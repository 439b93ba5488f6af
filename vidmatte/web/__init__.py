"""WEB: the picker, a page to mark, see, correct and finish in the browser."""
