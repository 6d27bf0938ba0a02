"""What every part of the library uses: errors for the user, files that appear whole, progress with an estimate."""
