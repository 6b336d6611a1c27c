"""A comparison on a page: pictures, tables, the page itself."""
