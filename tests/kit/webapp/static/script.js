"use strict";
document.addEventListener("DOMContentLoaded", () => { document.title += "."; });
