"""The console command ``fvfast``."""
