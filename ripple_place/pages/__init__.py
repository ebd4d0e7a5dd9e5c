"""Pages and pictures: results drawn as HTML and SVG."""
