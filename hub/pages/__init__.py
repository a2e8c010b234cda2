"""What people see in a browser: templates, static files, words. No build step."""
