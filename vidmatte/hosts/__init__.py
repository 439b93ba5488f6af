"""What compositing and editing programs need: scripts that read our files right, and plug-ins."""
