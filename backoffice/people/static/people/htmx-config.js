"use strict";
// The content security policy forbids code in attributes, and htmx shouldn't try.
htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false;
