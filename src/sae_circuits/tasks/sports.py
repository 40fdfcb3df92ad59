"""Sports: which sport does the athlete play? (Nanda et al., "Fact Finding", 2023)."""

from __future__ import annotations

from typing import Any

from sae_circuits.tasks.keyed import entries, keyed
from sae_circuits.tasks.recipes import build
from sae_circuits.tasks.task import Task

TEMPLATES = (
    "Fact: {keys} plays the sport of",
    "They say that {keys} plays the sport of",
    "We know that {keys} plays the sport of",
    "I know that {keys} plays the sport of",
)
FACTS = entries(
    {
        "basketball": "Michael Jordan, LeBron James, Kobe Bryant, Stephen Curry, Kevin Durant, "
        "Larry Bird, Magic Johnson, Tim Duncan, Charles Barkley, Scottie Pippen, Dirk Nowitzki, "
        "Allen Iverson, Russell Westbrook, James Harden, Dwyane Wade, Steve Nash",
        "baseball": "Babe Ruth, Derek Jeter, Mike Trout, Barry Bonds, Hank Aaron, Willie Mays, "
        "Ted Williams, Mickey Mantle, Alex Rodriguez, Albert Pujols, Clayton Kershaw, Lou Gehrig, "
        "Randy Johnson, Justin Verlander, Miguel Cabrera, Bryce Harper",
        "football": "Tom Brady, Peyton Manning, Eli Manning, Aaron Rodgers, Joe Montana, "
        "Jerry Rice, Brett Favre, Drew Brees, Patrick Mahomes, Emmitt Smith, Barry Sanders, "
        "Dan Marino, John Elway, Walter Payton, Tony Romo, Cam Newton",
        "hockey": "Wayne Gretzky, Sidney Crosby, Mario Lemieux, Bobby Orr, Gordie Howe, "
        "Alex Ovechkin, Mark Messier, Jaromir Jagr, Patrick Roy, Connor McDavid",
        "tennis": "Roger Federer, Rafael Nadal, Novak Djokovic, Andy Murray, Serena Williams, "
        "Venus Williams, Pete Sampras, Andre Agassi, Maria Sharapova, Steffi Graf, Boris Becker",
        "golf": "Tiger Woods, Jack Nicklaus, Phil Mickelson, Rory McIlroy, Arnold Palmer, "
        "Jordan Spieth, Bubba Watson, Ernie Els",
        "soccer": "Lionel Messi, Cristiano Ronaldo, David Beckham, Diego Maradona, Wayne Rooney, "
        "Mia Hamm, Megan Rapinoe, Thierry Henry, Landon Donovan",
    }
)

RECIPE = keyed("sports", TEMPLATES, FACTS)


def sports(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Sports: the sport of a well-known athlete.

    Clean: "Fact: Michael Jordan plays the sport of" -> " basketball", not " football". Corrupt: an
    athlete of another sport whose name has as many tokens, "Fact: Tom Brady plays the sport of",
    whose logit difference is reversed. "football" is the American one, beside "soccer".

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Nanda et al., "Fact Finding: attempting to reverse-engineer factual recall on the
    neuron level", 2023.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
