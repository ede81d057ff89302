#!/bin/sh
# Speaks the sentences of the .txt files with Flite (apt-get install flite flac lame); the voices are
# Flite's own and free to use. Everything is 16 kHz mono.
set -eu
cd "$(dirname "$0")"
speech=$(mktemp)
trap 'rm -f "$speech"' EXIT

flite -voice slt -f hello.txt -o hello.wav
flite -voice awb -f weather.txt -o "$speech"
flac --silent --force --best -o weather.flac "$speech"
flite -voice rms -f meeting.txt -o "$speech"
lame --quiet -m m -b 48 "$speech" meeting.mp3
chmod 644 weather.flac  # flac keeps the temporary file's mode
