"""Better views and better volumes: pure functions of arrays, each a step of the recipe that can be left out."""
