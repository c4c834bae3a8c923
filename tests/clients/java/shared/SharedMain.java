/** The cases that older clients run too: `SharedMain NAME [FILTER]`. */
public final class SharedMain {
    private SharedMain() {}

    public static void main(String[] arguments) throws InterruptedException {
        Suite suite = new Suite(arguments[0]);
        ProduceCases.addTo(suite);
        ConsumeCases.addTo(suite);
        GroupCases.addClassic(suite);
        TransactionCases.addTo(suite);
        suite.runAndExit(arguments.length > 1 ? arguments[1] : "");
    }
}
