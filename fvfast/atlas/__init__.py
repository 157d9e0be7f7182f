"""Every unit of a network: pictures, the images that excite them, and pages to look at them."""
