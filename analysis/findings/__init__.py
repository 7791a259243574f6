"""What a study found: numbers picked from its statistics, and sentences made of them."""
