"""How well texts stand out from what is behind them."""

# The colors of all texts, and of what is painted behind them.
TEXTS = """() => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        if (element.closest("noscript, .hidden, .skip")) continue;
        const style = getComputedStyle(element);
        let behind = element;
        while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
            behind = behind.parentElement;
        }
        const color = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
        found.push([
            walker.currentNode.textContent.trim(), color,
            getComputedStyle(behind ?? document.documentElement).backgroundColor,
        ]);
    }
    return found;
}"""


def contrast(one, other):
    """The ratio of two colors, as WCAG 2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    values = [int(one) / 255 for one in color.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in values]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
