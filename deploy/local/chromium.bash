# Chromium, in which the console is tested. A program, not a server: up installs it.
# shellcheck shell=bash

chromium_up() { need_package chromium chromium; }
