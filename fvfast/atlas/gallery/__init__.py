"""Makes the static pages that show an atlas."""

from fvfast.atlas.gallery.gallery import write_gallery as write_gallery
from fvfast.atlas.gallery.summary import GallerySummary as GallerySummary
