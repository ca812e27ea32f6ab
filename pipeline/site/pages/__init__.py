"""What each template is given, a page per file. Links are relative to the page; ``root`` leads from it to the site."""
